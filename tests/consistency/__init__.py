"""A checker: random histories on real servers, judged by the values that its clients read.

Several processes serve one site (WSGI, ASGI, jobs) while followers stand still, die and are cut
off. Each client knows what it wrote, so that a read which shows less is a violation, whatever the
routers believe. Every history comes from a seed: the same clients do the same things under the same
faults, as far as the machine's scheduling allows.
"""
