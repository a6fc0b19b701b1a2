"""The guards once more: an order stopped in mid-execution, and the orders of a plan in turn."""

from django.db import migrations

from commands.records import order_guards


class Migration(migrations.Migration):
    dependencies = [("commands", "0003_whole_governor")]

    operations = [migrations.RunPython(order_guards.install, migrations.RunPython.noop)]
