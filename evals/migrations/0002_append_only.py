from django.db import migrations

from kernel import append_only


class Migration(migrations.Migration):
    dependencies = [("evals", "0001_initial"), ("kernel", "0002_append_only")]

    operations = [*append_only.protect("evals_roastreport")]
