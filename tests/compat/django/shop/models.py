from django.contrib.postgres.fields import ArrayField
from django.db import models


class Customer(models.Model):
    name = models.CharField(max_length=100)
    email = models.EmailField(unique=True)
    credit = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    tags = ArrayField(models.TextField(), default=list)
    extra = models.JSONField(default=dict)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(credit__gte=0), name="credit_not_negative")]


class Product(models.Model):
    title = models.TextField(db_index=True)
    stock = models.IntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2)


class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="orders")
    products = models.ManyToManyField(Product, through="Line")
    placed = models.DateTimeField(auto_now_add=True)
    paid = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["placed"], name="order_placed")]


class Line(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["order", "product"], name="one_line_a_product")]
