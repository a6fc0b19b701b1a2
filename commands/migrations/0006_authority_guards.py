"""The guards once more: yeses, veto windows, reviews, broken trust, presence, the policy."""

from django.db import migrations

from commands.records import order_guards


class Migration(migrations.Migration):
    dependencies = [("commands", "0005_order_spans")]

    operations = [migrations.RunPython(order_guards.install, migrations.RunPython.noop)]
