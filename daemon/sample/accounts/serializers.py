"""Customers as JSON."""

from rest_framework import serializers

from accounts.models import Address, User


class AddressSerializer(serializers.ModelSerializer):
    class Meta:
        model = Address
        fields = ["street", "city", "country"]


class UserSerializer(serializers.ModelSerializer):
    addresses = AddressSerializer(many=True, read_only=True)

    class Meta:
        model = User
        fields = ["id", "username", "email", "phone", "addresses"]

    def validate_phone(self, value):
        digits = value.replace(" ", "").replace("-", "")
        if digits and not digits.lstrip("+").isdigit():
            raise serializers.ValidationError("a phone number has digits only")
        return digits
