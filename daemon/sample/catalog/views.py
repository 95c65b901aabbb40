"""Pages that show the catalogue."""

from django.http import JsonResponse
from django.views.generic import DetailView, ListView

from catalog.models import Book
from catalog.search import BookIndex
from shop.settings import PAGE_SIZE


class BookListView(ListView):
    model = Book
    paginate_by = PAGE_SIZE

    def get_queryset(self):
        return Book.objects.select_related("author").filter(stock__gt=0)


class BookDetailView(DetailView):
    model = Book

    def get_context_data(self, **kwargs):
        context = super().get_context_data(**kwargs)
        context["same_author"] = self.object.author.books.exclude(pk=self.object.pk)[:6]
        return context


def search_books(request):
    hits = BookIndex.shared().query(request.GET.get("q", ""), limit=PAGE_SIZE)
    return JsonResponse({"books": [hit.as_dict() for hit in hits]})
