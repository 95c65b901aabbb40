"""Pages and API of the customers."""

from django.contrib.auth.mixins import LoginRequiredMixin
from django.views.generic import TemplateView
from rest_framework.viewsets import ModelViewSet

from accounts.models import User
from accounts.permissions import IsSelf
from accounts.serializers import UserSerializer


class ProfileView(LoginRequiredMixin, TemplateView):
    template_name = "accounts/profile.html"


class UserViewSet(ModelViewSet):
    queryset = User.objects.prefetch_related("addresses")
    serializer_class = UserSerializer
    permission_classes = [IsSelf]
