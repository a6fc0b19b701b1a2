"""Order history by span: an hour's orders as records, longer spans as sums; an index of what ended."""

import datetime as dt

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("commands", "0004_plans_in_turn")]

    operations = [
        migrations.RemoveConstraint(model_name="orderhour", name="order_hour_once"),
        migrations.RemoveIndex(model_name="orderhour", name="order_hour_by_time"),
        *(
            migrations.RemoveField(model_name="orderhour", name=name)
            for name in ("agent_key", "order_type", "counts", "latencies")
        ),
        migrations.AddField("orderhour", "span_s", models.IntegerField(default=3600)),
        migrations.AddField("orderhour", "names", models.JSONField(default=list)),
        migrations.AddField("orderhour", "counts", models.BinaryField(default=bytes)),
        migrations.AddField("orderhour", "latencies", models.BinaryField(default=bytes)),
        migrations.AddField("orderhour", "open_orders", models.IntegerField(default=0)),
        migrations.AddField(
            "orderhour",
            "summed_at",
            models.DateTimeField(default=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
            preserve_default=False,
        ),
        migrations.AddConstraint(
            model_name="orderhour",
            constraint=models.UniqueConstraint(
                fields=["organization", "machine_key", "span_s", "hour_at"], name="order_hour_once"
            ),
        ),
        migrations.AddIndex(
            model_name="orderhour",
            index=models.Index(
                fields=["summed_at"], condition=models.Q(("open_orders__gt", 0)), name="order_hour_open"
            ),
        ),
        migrations.AddIndex(
            model_name="proposal",
            index=models.Index(
                fields=["settled_at"],
                condition=models.Q(("status__in", ["COMPLETED", "FAILED", "TIMEOUT"])),
                name="proposal_ended",
            ),
        ),
    ]
