import json

from django.contrib.auth import authenticate
from django.contrib.auth import login as django_login
from django.db import transaction
from django.db.models import F, Sum
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404

from shop.models import Customer, Line, Order, Product


class OutOfStock(Exception):
    pass


def customer(request, key):
    found = get_object_or_404(Customer, pk=key)
    bought = found.orders.aggregate(total=Sum(F("lines__quantity") * F("lines__product__price")))["total"]
    return JsonResponse({"name": found.name, "orders": found.orders.count(), "bought": str(bought)})


def place(request):
    wanted = json.loads(request.body)
    try:
        with transaction.atomic():
            order = Order.objects.create(customer_id=wanted["customer"])
            for item in wanted["items"]:
                product = Product.objects.select_for_update().get(pk=item["product"])
                if product.stock < item["quantity"]:
                    raise OutOfStock
                product.stock -= item["quantity"]
                product.save(update_fields=["stock"])
                Line.objects.create(order=order, product=product, quantity=item["quantity"])
    except OutOfStock:
        return HttpResponse("out of stock", status=409)
    return JsonResponse({"order": order.pk}, status=201)


def login(request):
    user = authenticate(request, username=request.POST["username"], password=request.POST["password"])
    if user is None:
        return HttpResponse(status=403)
    django_login(request, user)
    return HttpResponse("welcome")
