from django.db import migrations

from kernel import append_only


class Migration(migrations.Migration):
    dependencies = [("kernel", "0001_initial")]

    operations = [
        *append_only.protect("kernel_auditentry"),
        *append_only.protect("kernel_auditseal", key="entry_id"),
        *append_only.protect("kernel_auditcheckpoint"),
    ]
