"""Where the console's pages live. Included at the root of the site."""

from django.urls import path

from commands.alarms import pages as pages_alarms
from commands.commissioning import pages as pages_commissioning
from commands.console import pages, pages_governor, pages_limits, pages_orders, pages_people, pages_words
from commands.history import pages_analytics

app_name = "console"
urlpatterns = [
    path("", pages.home, name="home"),
    path("cards/", pages.home_cards, name="home_cards"),
    path("queue/", pages.home_queue, name="home_queue"),
    path("machines/<str:machine_id>/", pages.machine, name="machine"),
    path("machines/<str:machine_id>/panels/<str:panel>/", pages.machine_panel, name="machine_panel"),
    path("machines/<str:machine_id>/commissioning/", pages_commissioning.commissioning_page, name="commissioning"),
    path("machines/<str:machine_id>/drill/", pages_commissioning.drill_page, name="drill"),
    path("alarms/", pages_alarms.alarms, name="alarms"),
    path("machines/<str:machine_id>/envelope/", pages_limits.envelope, name="envelope"),
    path("analytics/", pages_analytics.analytics, name="analytics"),
    path("analytics/alerts/", pages_analytics.alert_list, name="analytics_alerts"),
    path("governor/", pages_governor.governor, name="governor"),
    path("grants/", pages_limits.grants, name="grants"),
    path("orders/", pages_orders.order_list, name="orders"),
    path("orders/rows/", pages_orders.order_rows, name="order_rows"),
    path("orders/news/", pages_orders.order_news, name="order_news"),
    path("orders/export.csv", pages_orders.order_export, name="order_export"),
    path("orders/<str:proposal_id>/", pages_orders.order, name="order"),
    path("orders/<str:proposal_id>/story/", pages_orders.order_again, name="order_again"),
    path("words/", pages_words.said, name="words"),
    path("stop-tokens/", pages.stop_tokens, name="stop_tokens"),
    path("me/", pages_people.me, name="me"),
    path("me/pin/", pages_people.me_pin, name="me_pin"),
    path("switch/", pages_people.switch, name="switch"),
    path("sign-in/", pages.SignIn.as_view(), name="sign_in"),
    path("sign-out/", pages.SignOut.as_view(), name="sign_out"),
]
