from django.urls import path

from . import views

urlpatterns = [
    path("read/<owner>/<int:times>", views.read),
    path("write/<owner>/<int:number>", views.write),
    path("async/read/<owner>/<int:times>", views.aread),
    path("async/write/<owner>/<int:number>", views.awrite),
]
