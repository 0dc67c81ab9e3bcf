from django.urls import path

from shop import views

urlpatterns = [path("customers/<int:key>", views.customer), path("orders", views.place), path("login", views.login)]
