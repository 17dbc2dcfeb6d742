"""The table of orders."""

# ruff: noqa: RUF012 - Django reads these lists as they stand

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import shop.models


class Migration(migrations.Migration):
    """Create it."""

    initial = True
    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=shop.models.new_order_id, max_length=16, primary_key=True, serialize=False
                    ),
                ),
                ("revenue", models.DecimalField(decimal_places=2, max_digits=10)),
                ("state", models.CharField(default="new", max_length=16)),
                (
                    "customer",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL),
                ),
            ],
        ),
    ]
