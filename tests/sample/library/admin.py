from django.contrib import admin

from .models import Author, Book, Genre


class BookInline(admin.TabularInline):
    model = Book
    extra = 1


@admin.register(Author)
class AuthorAdmin(admin.ModelAdmin):
    inlines = [BookInline]
    search_fields = ["name"]


admin.site.register([Book, Genre])
