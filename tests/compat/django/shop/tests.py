"""The tests of a small shop, as an application's own suite has them."""

import json
import threading
from decimal import Decimal

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, OperationalError, connection, connections, models, transaction
from django.db.models import Avg, Case, Count, Exists, F, OuterRef, Prefetch, Subquery, Sum, Value, When, Window
from django.db.models.functions import Lower, RowNumber, TruncDay
from django.db.models.deletion import ProtectedError
from django.test import Client, TestCase, TransactionTestCase

from shop.models import Customer, Line, Order, Product


def make():
    customers = [Customer.objects.create(name=f"Customer {n}", email=f"c{n}@example.com", credit=n * 10, tags=["new", str(n)], extra={"level": n}) for n in range(5)]
    products = Product.objects.bulk_create([Product(title=f"Product {n}", stock=10, price=Decimal(n) + Decimal("0.95")) for n in range(20)])
    for n, customer in enumerate(customers):
        order = Order.objects.create(customer=customer, paid=n % 2 == 0)
        Line.objects.bulk_create([Line(order=order, product=product, quantity=n + 1) for product in products[n:n + 3]])
    return customers, products


class Queries(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.customers, cls.products = make()

    def test_filters_and_lookups(self):
        self.assertEqual(Customer.objects.filter(name__icontains="CUSTOMER", credit__gt=10).exclude(pk=self.customers[4].pk).count(), 2)
        self.assertEqual(list(Customer.objects.filter(tags__contains=["3"]).values_list("name", flat=True)), ["Customer 3"])
        self.assertEqual(Customer.objects.get(extra__level=2).name, "Customer 2")
        self.assertFalse(Customer.objects.filter(pk__in=[]).exists())

    def test_aggregates(self):
        self.assertEqual(Product.objects.aggregate(Avg("price"))["price__avg"], Decimal("10.45"))
        sums = Order.objects.annotate(items=Sum("lines__quantity"), kinds=Count("products", distinct=True)).order_by("pk")
        self.assertEqual([(order.items, order.kinds) for order in sums], [(3, 3), (6, 3), (9, 3), (12, 3), (15, 3)])

    def test_subqueries_and_windows(self):
        paid = Order.objects.filter(customer=OuterRef("pk"), paid=True)
        self.assertEqual(Customer.objects.filter(Exists(paid)).count(), 3)
        dearest = Line.objects.filter(order__customer=OuterRef("pk")).order_by("-product__price").values("product__title")[:1]
        self.assertEqual(Customer.objects.annotate(dearest=Subquery(dearest)).get(pk=self.customers[1].pk).dearest, "Product 3")
        ranked = Product.objects.annotate(rank=Window(RowNumber(), order_by=F("price").desc()))
        self.assertEqual(min(product.rank for product in ranked), 1)

    def test_related(self):
        with self.assertNumQueries(3):
            orders = list(Order.objects.select_related("customer").prefetch_related(Prefetch("lines", Line.objects.order_by("pk")), "products"))
            self.assertEqual(sum(line.quantity for order in orders for line in order.lines.all()), 45)

    def test_expressions(self):
        Customer.objects.update(credit=Case(When(credit__gte=20, then=F("credit") * Decimal(2)), default=Value(Decimal(1))))
        self.assertEqual(list(Customer.objects.order_by("pk").values_list("credit", flat=True)), [1, 1, 40, 60, 80])
        self.assertEqual(Customer.objects.annotate(low=Lower("name")).filter(low="customer 1").count(), 1)
        self.assertEqual(Order.objects.annotate(day=TruncDay("placed")).values("day").annotate(n=Count("pk")).count(), 1)

    def test_bulk_writes(self):
        for product in self.products:
            product.stock += 1
        self.assertEqual(Product.objects.bulk_update(self.products, ["stock"], batch_size=7), 20)
        self.assertEqual(Product.objects.filter(stock=11).count(), 20)
        Customer.objects.bulk_create([Customer(name="Upserted", email="c0@example.com")], update_conflicts=True, unique_fields=["email"], update_fields=["name"])
        self.assertEqual(Customer.objects.get(email="c0@example.com").name, "Upserted")

    def test_get_or_create(self):
        self.assertEqual([Customer.objects.get_or_create(email="c1@example.com")[1], Customer.objects.update_or_create(email="new@example.com", defaults={"name": "New"})[1]], [False, True])

    def test_deletes_cascade_or_are_refused(self):
        with self.assertRaises(ProtectedError):
            self.products[0].delete()
        self.assertEqual(self.customers[0].delete()[0], 5)

    def test_iterator_uses_a_server_side_cursor(self):
        self.assertEqual(sum(product.stock for product in Product.objects.iterator(chunk_size=3)), 200)

    def test_set_operations(self):
        self.assertEqual(Customer.objects.filter(credit=10).union(Customer.objects.filter(credit=20), all=True).count(), 2)

    def test_raw_sql(self):
        self.assertEqual([c.name for c in Customer.objects.raw("SELECT * FROM shop_customer WHERE credit > %s ORDER BY id", [25])], ["Customer 3", "Customer 4"])
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s::text || '%%', %s::int[]", ["a", [1, 2]])
            self.assertEqual(cursor.fetchone(), ("a%", [1, 2]))

    def test_explain(self):
        self.assertIn("shop_customer", Customer.objects.filter(pk=1).explain(format="text"))


class Errors(TestCase):
    def test_constraints(self):
        Customer.objects.create(name="One", email="one@example.com")
        for wrong in ({"email": "one@example.com"}, {"email": "two@example.com", "credit": -1}):
            with self.assertRaises(IntegrityError), transaction.atomic():
                Customer.objects.create(name="Two", **wrong)
        self.assertEqual(Customer.objects.count(), 1)

    def test_a_broken_transaction_refuses_queries(self):
        with self.assertRaises(transaction.TransactionManagementError):
            with transaction.atomic():
                try:
                    with transaction.atomic(savepoint=False):
                        Customer.objects.create(name="x", email="x", credit=-1)
                except IntegrityError:
                    Customer.objects.count()

    def test_savepoints(self):
        point = transaction.savepoint()
        Customer.objects.create(name="gone", email="gone@example.com")
        transaction.savepoint_rollback(point)
        point = transaction.savepoint()
        Customer.objects.create(name="kept", email="kept@example.com")
        transaction.savepoint_commit(point)
        self.assertEqual([c.name for c in Customer.objects.all()], ["kept"])

    def test_data_errors(self):
        with self.assertRaises(DatabaseError), transaction.atomic():
            Customer.objects.create(name="n" * 200, email="long@example.com")
        with self.assertRaises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")


class Transactions(TransactionTestCase):
    def test_select_for_update(self):
        make()
        with transaction.atomic():
            product = Product.objects.select_for_update().order_by("pk").first()
            outcome = []

            def other():
                try:
                    with transaction.atomic():
                        Product.objects.select_for_update(nowait=True).get(pk=product.pk)
                except OperationalError as error:
                    outcome.append(error.__cause__.sqlstate)
                with transaction.atomic():
                    outcome.append(Product.objects.select_for_update(skip_locked=True).count())
                    outcome.append(Product.objects.select_for_update(skip_locked=True).order_by("pk").first().title)
                connections.close_all()
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        self.assertEqual(outcome, ["55P03", 20, "Product 1"])

    def test_concurrent_increments_are_not_lost(self):
        product = Product.objects.create(title="popular", stock=0, price=1)

        def buy():
            for _ in range(10):
                with transaction.atomic():
                    locked = Product.objects.select_for_update().get(pk=product.pk)
                    locked.stock += 1
                    locked.save()
            connections.close_all()
        threads = [threading.Thread(target=buy) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        product.refresh_from_db()
        self.assertEqual(product.stock, 40)

    def test_on_commit(self):
        seen = []
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append(Customer.objects.count()))
            Customer.objects.create(name="a", email="a@example.com")
            self.assertEqual(seen, [])
        self.assertEqual(seen, [1])

    def test_rolled_back_by_an_exception(self):
        with self.assertRaises(KeyError), transaction.atomic():
            Customer.objects.create(name="a", email="a@example.com")
            raise KeyError
        self.assertEqual(Customer.objects.count(), 0)

    def test_autocommit_off(self):
        transaction.set_autocommit(False)
        try:
            Customer.objects.create(name="a", email="a@example.com")
            transaction.rollback()
            self.assertEqual(Customer.objects.count(), 0)
            transaction.rollback()
        finally:
            transaction.set_autocommit(True)

    def test_serializable_with_a_retry(self):
        make()
        first, second = Product.objects.order_by("pk")[:2]
        tries = 0
        while True:
            tries += 1
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                    list(Product.objects.filter(pk=first.pk))
                    if tries == 1:
                        thread = threading.Thread(target=self.other_side, args=(first, second))
                        thread.start()
                        thread.join()
                    Product.objects.filter(pk=second.pk).update(stock=F("stock") + 1)
                break
            except OperationalError as error:
                self.assertEqual(error.__cause__.sqlstate, "40001")
        self.assertEqual(tries, 2)

    @staticmethod
    def other_side(first, second):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            list(Product.objects.filter(pk=second.pk))
            Product.objects.filter(pk=first.pk).update(stock=F("stock") + 1)
        connections.close_all()


class Views(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.customers, cls.products = make()

    def test_a_customer(self):
        answer = Client().get(f"/customers/{self.customers[1].pk}")
        self.assertEqual(answer.json(), {"name": "Customer 1", "orders": 1, "bought": "17.70"})
        self.assertEqual(Client().get("/customers/999999").status_code, 404)

    def test_an_order(self):
        items = [{"product": self.products[0].pk, "quantity": 2}, {"product": self.products[1].pk, "quantity": 10}]
        place = lambda: Client().post("/orders", json.dumps({"customer": self.customers[0].pk, "items": items}), content_type="application/json")
        self.assertEqual([place().status_code, place().status_code], [201, 409])
        self.assertEqual(list(Product.objects.order_by("pk").values_list("stock", flat=True)[:2]), [8, 0])
        self.assertEqual(Order.objects.filter(customer=self.customers[0]).count(), 2)

    def test_login_makes_a_session(self):
        User.objects.create_user("ada", password="lovelace")
        client = Client()
        self.assertEqual(client.post("/login", {"username": "ada", "password": "x"}).status_code, 403)
        self.assertEqual(client.post("/login", {"username": "ada", "password": "lovelace"}).content, b"welcome")
        self.assertTrue(client.session.session_key)


class Schema(TransactionTestCase):
    def test_a_migration_by_hand(self):
        class Extra(models.Model):
            note = models.TextField()

            class Meta:
                app_label = "shop"
                db_table = "shop_extra"

        with connection.schema_editor() as editor:
            editor.create_model(Extra)
            field = models.IntegerField(null=True)
            field.set_attributes_from_name("later")
            editor.add_field(Extra, field)
        Extra.objects.create(note="x")
        with connection.cursor() as cursor:
            self.assertEqual([column.name for column in connection.introspection.get_table_description(cursor, "shop_extra")], ["id", "note", "later"])
        with connection.schema_editor() as editor:
            editor.delete_model(Extra)

    def test_migrating_back_and_forth(self):
        call_command("migrate", "shop", "0001", verbosity=0)
        call_command("migrate", "shop", verbosity=0)
