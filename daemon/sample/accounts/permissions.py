"""Who may see what."""

from rest_framework.permissions import BasePermission


class IsSelf(BasePermission):
    message = "customers see their own data only"

    def has_object_permission(self, request, view, obj):
        return request.user.is_staff or obj == request.user
