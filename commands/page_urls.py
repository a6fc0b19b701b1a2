"""Where the console's pages live. Included at the root of the site."""

from django.urls import path

from commands import pages, pages_alarms, people_pages

app_name = "console"
urlpatterns = [
    path("", pages.home, name="home"),
    path("cards/", pages.home_cards, name="home_cards"),
    path("machines/<str:machine_id>/", pages.machine, name="machine"),
    path("machines/<str:machine_id>/panels/<str:panel>/", pages.machine_panel, name="machine_panel"),
    path("alarms/", pages_alarms.alarms, name="alarms"),
    path("stop-tokens/", pages.stop_tokens, name="stop_tokens"),
    path("me/", people_pages.me, name="me"),
    path("me/pin/", people_pages.me_pin, name="me_pin"),
    path("switch/", people_pages.switch, name="switch"),
    path("sign-in/", pages.SignIn.as_view(), name="sign_in"),
    path("sign-out/", pages.SignOut.as_view(), name="sign_out"),
]
