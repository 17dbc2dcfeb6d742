"""The pages of the example shop."""

from django.urls import path

from shop import views

urlpatterns = [
    path("", views.home, name="home"),
    path("p/<int:product_id>", views.product, name="product"),
    path("cart", views.show_cart, name="cart"),
    path("cart/add", views.add_to_cart, name="add"),
    path("buy", views.buy, name="buy"),
    path("order/<order_id>", views.show_order, name="order"),
    path("order/<order_id>/ship", views.ship, name="ship"),
    path("login", views.log_in, name="login"),
    path("logout", views.log_out, name="logout"),
    path("opt-out", views.opt_out, name="opt-out"),
]
