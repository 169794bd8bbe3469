"""An ordinary suite: nobody who wrote it ever heard of followers."""

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, F, Sum
from django.test import TestCase, TransactionTestCase

from .models import Author, Book, Genre, Note


class LibraryTestCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.author = Author.objects.create(name="Ursula")
        cls.genre = Genre.objects.create(name="utopia")
        cls.book = Book.objects.create(title="Always", copies=2, author=cls.author)
        cls.book.genres.add(cls.genre)


class RelationTests(LibraryTestCase):
    def test_foreign_key_both_ways(self):
        book = Book.objects.get(title="Always")
        self.assertEqual(book.author, self.author)
        self.assertEqual(list(self.author.books.all()), [book])
        self.author.books.create(title="Never")
        self.assertEqual(self.author.books.count(), 2)

    def test_reverse_add_and_set(self):
        other = Author.objects.create(name="Iain")
        other.books.add(Book.objects.get(pk=self.book.pk))
        self.book.refresh_from_db()
        self.assertEqual(self.book.author, other)

    def test_many_to_many(self):
        other = Genre.objects.create(name="fable")
        self.book.genres.add(other)
        self.assertEqual(self.book.genres.count(), 2)
        self.book.genres.set([other])
        self.assertEqual(list(self.genre.books.all()), [])
        self.book.genres.clear()
        self.assertFalse(self.book.genres.exists())

    def test_generic_relations(self):
        note = Note.objects.create(text="good", about=self.book)
        self.assertEqual(Note.objects.get(pk=note.pk).about, self.book)
        self.book.notes.create(text="better")
        self.assertEqual(Book.objects.filter(notes__text="better").get(), self.book)

    def test_select_related(self):
        with self.assertNumQueries(1):
            self.assertEqual(Book.objects.select_related("author").get().author.name, "Ursula")

    def test_prefetch_related(self):
        Note.objects.create(text="good", about=self.book)
        with self.assertNumQueries(3):
            author = Author.objects.prefetch_related("books__genres").get()
            self.assertEqual(author.books.all()[0].genres.all()[0].name, "utopia")
        self.assertEqual(Note.objects.prefetch_related("about").get().about, self.book)

    def test_deferred_fields(self):
        book = Book.objects.only("title").get()
        book.title = "Sometimes"
        book.save()
        self.assertEqual(Book.objects.get().copies, 2)

    def test_delete_cascades(self):
        self.author.delete()
        self.assertFalse(Book.objects.exists())


class WritingTests(LibraryTestCase):
    def test_get_or_create(self):
        self.assertEqual(Author.objects.get_or_create(name="Ursula"), (self.author, False))
        author, created = Author.objects.get_or_create(name="Octavia")
        self.assertTrue(created)
        self.assertEqual(Author.objects.get(name="Octavia"), author)

    def test_update_or_create(self):
        _, created = Book.objects.update_or_create(title="Always", defaults={"copies": 9})
        self.assertFalse(created)
        self.assertEqual(Book.objects.get().copies, 9)

    def test_bulk_create_and_update(self):
        made = Book.objects.bulk_create(
            Book(title=str(number), author=self.author) for number in range(20)
        )
        self.assertEqual(Book.objects.count(), 21)
        for book in made:
            book.copies = 1
        Book.objects.bulk_update(made, ["copies"])
        self.assertEqual(Book.objects.aggregate(sum=Sum("copies"))["sum"], 22)

    def test_expressions_and_annotations(self):
        Book.objects.update(copies=F("copies") + 1)
        self.assertEqual(Book.objects.get().copies, 3)
        self.assertEqual(Author.objects.annotate(n=Count("books")).get().n, 1)

    def test_raw(self):
        self.assertEqual(Book.objects.raw("SELECT * FROM library_book")[0], self.book)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE library_book SET copies = 7")
        self.assertEqual(Book.objects.get().copies, 7)


class TransactionTests(LibraryTestCase):
    def test_inner_transaction_is_rolled_back(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            Author.objects.create(name="Ursula")
        self.assertEqual(Author.objects.count(), 1)

    def test_on_commit(self):
        seen = []
        with self.captureOnCommitCallbacks(execute=True) as callbacks, transaction.atomic():
            Book.objects.create(title="Never", author=self.author)
            transaction.on_commit(lambda: seen.append(Book.objects.get(title="Never").title))
        self.assertEqual((len(callbacks), seen), (1, ["Never"]))


class CommitTests(TransactionTestCase):
    # Django wants every alias named that a test connects to, and nothing here isolates the test.
    databases = "__all__"

    def test_on_commit_runs(self):
        seen = []
        with transaction.atomic():
            Author.objects.create(name="Ursula")
            transaction.on_commit(lambda: seen.append(Author.objects.get().name))
        self.assertEqual(seen, ["Ursula"])

    def test_the_page_shows_what_was_committed(self):
        author = Author.objects.create(name="Ursula")
        Book.objects.create(title="Always", author=author)
        self.assertContains(self.client.get("/books/"), "Always")


class PageTests(LibraryTestCase):
    def test_list(self):
        with self.assertNumQueries(2):
            response = self.client.get("/books/")
        self.assertEqual(
            response.json(), [{"title": "Always", "author": "Ursula", "genres": ["utopia"]}]
        )

    def test_book(self):
        self.book.notes.create(text="good")
        response = self.client.get(f"/books/{self.book.pk}/")
        self.assertEqual(response.json(), {"title": "Always", "notes": ["good"]})
        self.assertEqual(self.client.get("/books/999/").status_code, 404)

    def test_add(self):
        response = self.client.post(
            "/books/add/", {"author": "Octavia", "title": "Seed"}, follow=True
        )
        self.assertEqual(response.json(), {"title": "Seed", "notes": []})

    def test_session(self):
        for visits in (1, 2, 3):
            self.assertEqual(self.client.get("/visits/").json(), {"visits": visits})


class AdminTests(LibraryTestCase):
    @classmethod
    def setUpTestData(cls):
        super().setUpTestData()
        cls.user = User.objects.create_superuser("ann", password="secret")

    def test_log_in_and_out(self):
        response = self.client.post(
            "/admin/login/?next=/admin/", {"username": "ann", "password": "secret"}, follow=True
        )
        self.assertContains(response, "Welcome")
        self.user.refresh_from_db()
        self.assertIsNotNone(self.user.last_login)
        self.client.post("/admin/logout/")
        self.assertRedirects(self.client.get("/admin/"), "/admin/login/?next=/admin/")

    def test_change_list_and_form(self):
        self.client.force_login(self.user)
        self.assertContains(self.client.get("/admin/library/author/?q=Urs"), "1 author")
        page = f"/admin/library/author/{self.author.pk}/change/"
        self.assertContains(self.client.get(page), "Always")

    def test_add_with_inline(self):
        self.client.force_login(self.user)
        response = self.client.post(
            "/admin/library/author/add/",
            {
                "name": "Octavia",
                "books-TOTAL_FORMS": "1",
                "books-INITIAL_FORMS": "0",
                "books-0-title": "Seed",
                "books-0-copies": "1",
            },
            follow=True,
        )
        self.assertContains(response, "was added successfully")
        self.assertEqual(Book.objects.get(title="Seed").author.name, "Octavia")

    def test_duplicate_is_told(self):
        self.client.force_login(self.user)
        forms = {"books-TOTAL_FORMS": "0", "books-INITIAL_FORMS": "0"}
        response = self.client.post("/admin/library/author/add/", {"name": "Ursula", **forms})
        self.assertContains(response, "already exists")

    def test_delete_and_history(self):
        self.client.force_login(self.user)
        page = f"/admin/library/genre/{self.genre.pk}"
        self.client.post(f"{page}/change/", {"name": "dystopia"})
        self.assertContains(self.client.get(f"{page}/history/"), "Changed Name")
        self.client.post(f"{page}/delete/", {"post": "yes"})
        self.assertEqual(Genre.objects.count(), 0)
