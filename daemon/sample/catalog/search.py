"""A word index over titles and authors."""

from collections import defaultdict
from dataclasses import dataclass

from catalog.models import Book


@dataclass(frozen=True)
class Hit:
    book_id: int
    title: str
    score: float

    def as_dict(self):
        return {"id": self.book_id, "title": self.title, "score": round(self.score, 3)}


class BookIndex:
    _shared = None

    def __init__(self, books):
        self.titles = {book.pk: book.title for book in books}
        self.words = defaultdict(set)
        for book in books:
            for word in f"{book.title} {book.author.name}".lower().split():
                self.words[word].add(book.pk)

    @classmethod
    def shared(cls):
        if cls._shared is None:
            cls._shared = cls(Book.objects.select_related("author"))
        return cls._shared

    def query(self, text, limit):
        wanted = text.lower().split()
        counts = defaultdict(int)
        for word in wanted:
            for pk in self.words.get(word, ()):
                counts[pk] += 1
        hits = [Hit(pk, self.titles[pk], n / len(wanted)) for pk, n in counts.items()]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]
