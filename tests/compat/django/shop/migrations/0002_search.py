from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


def name_products(apps, schema_editor):
    apps.get_model("shop", "Product").objects.filter(title="").update(title="unnamed")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RunPython(name_products, migrations.RunPython.noop),
        AddIndexConcurrently("order", models.Index(fields=["placed"], name="order_placed")),
    ]
