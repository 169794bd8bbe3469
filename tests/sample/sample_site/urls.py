from django.contrib import admin
from django.urls import path
from library import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("books/", views.books),
    path("books/<int:pk>/", views.book),
    path("books/add/", views.add_book),
    path("visits/", views.visits),
]
