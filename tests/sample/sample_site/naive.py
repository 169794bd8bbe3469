"""What a router is before anybody has thought about lag."""


class FirstFollower:
    def db_for_read(self, model, **hints):
        return "replica1"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, obj1, obj2, **hints):
        return True
