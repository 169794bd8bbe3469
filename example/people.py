"""Simulated people: they read, post, edit and like, and notice when their own words are missing."""

import re
from random import Random
from threading import Event, Thread

from example.browser import Browser, Page
from example.tally import Tally

MESSAGE_LINK = re.compile(r"/messages/(\d+)/")
EDIT_LINK = re.compile(r"/messages/(\d+)/edit/")
WRITES = 0.07
LOOKS_AFTER_A_WRITE = 3
LIKED = "You like this."
THOUGHTS = [
    "Has anybody seen my umbrella?",
    "The new coffee machine works.",
    "Release is on Thursday.",
    "I found the bug, it was a comma.",
    "Who is coming to lunch?",
    "The train is late again.",
    "Reading old papers all morning.",
    "It compiles, so it may even work.",
]


class Person(Thread):
    """Somebody who uses the site until told to stop, judging by the pages alone."""

    def __init__(self, name: str, port: int, random: Random, closing_time: Event) -> None:
        super().__init__(daemon=True)
        self.person = name
        self.tally = Tally()
        self._browser = Browser(port, self.tally.note)
        self._random = random
        self._closing_time = closing_time
        self._curiosity = 0
        self._thoughts = 0
        self._own_texts: list[str] = []

    def run(self) -> None:
        try:
            self._closing_time.wait(self._random.uniform(0, 0.5))
            self._enter()
            while not self._closing_time.wait(self._random.uniform(0.1, 0.6)):
                self._do_something()
        except Exception:
            self.tally.failed += 1
            raise
        finally:
            self._browser.close()

    def _do_something(self) -> None:
        if self._curiosity:
            self._curiosity -= 1
            self._read_own_page()
            return
        read = [self._read_board, self._read_message, self._read_own_page]
        write = [self._post, self._reply, self._edit, self._like]
        if self._random.random() < WRITES:
            self._random.choices(write, [6, 2, 2, 2])[0]()
        else:
            self._random.choices(read, [4, 3, 3])[0]()

    def _enter(self) -> None:
        self._browser.submit(self._browser.get("/enter/"), "/enter/", name=self.person)

    def _read_board(self) -> Page:
        return self._browser.get("/")

    def _read_message(self) -> Page | None:
        """Open a message of the board; the next follower may be too far behind to have it."""
        links = MESSAGE_LINK.findall(self._read_board().text)
        if not links:
            return None
        page = self._browser.get(f"/messages/{self._random.choice(links)}/")
        return page if page.status == 200 else None

    def _read_own_page(self) -> Page:
        page = self._browser.get(f"/people/{self.person}/")
        if self._own_texts:
            self._look_for(self._own_texts, page)
        return page

    def _post(self) -> None:
        text = self._think()
        if page := self._send(self._read_board(), "/messages/new/", text=text):
            self._own_texts.append(text)
            self._look_for([text], page)

    def _reply(self) -> None:
        text = self._think()
        message = self._read_message()
        if message and (page := self._send(message, f"{message.path}reply/", text=text)):
            self._own_texts.append(text)
            self._look_for([text], page)

    def _like(self) -> None:
        message = self._read_message()
        if message and (page := self._send(message, f"{message.path}like/")):
            self._look_for([LIKED], page)

    def _edit(self) -> None:
        """Change the newest of the own messages that the page shows; it may lack newer ones."""
        link = EDIT_LINK.search(self._read_own_page().text)
        if link is None:
            return
        form = self._browser.get(link[0])
        shown = [text for text in self._own_texts if text in form.text]
        self._look_for(shown or self._own_texts, form)
        text = self._think()
        if shown and (page := self._send(form, link[0], text=text)):
            self._own_texts[self._own_texts.index(shown[0])] = text
            self._look_for(self._own_texts, page)

    def _send(self, form_on: Page, path: str, **fields: str) -> Page | None:
        """Send a form; return where it led, or nothing if the site did not take it."""
        page = self._browser.submit(form_on, path, **fields)
        if page.path == path:
            return None
        self.tally.writes += 1
        self._curiosity = LOOKS_AFTER_A_WRITE
        return page

    def _think(self) -> str:
        """Return something to say that nobody else says."""
        self._thoughts += 1
        return f"{self._random.choice(THOUGHTS)} ({self.person}, {self._thoughts})"

    def _look_for(self, texts: list[str], page: Page) -> None:
        self.tally.looks += 1
        self.tally.unseen += page.status == 404 or any(text not in page.text for text in texts)
