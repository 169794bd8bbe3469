"""Requests that write, read and queue jobs, each for threads and for event loops."""

from asgiref.sync import sync_to_async
from django.http import Http404, JsonResponse

from . import counting, queue


def read(request, owner, times):
    return JsonResponse(counting.read(owner, times))


def write(request, owner, number):
    """Write; what is answered after that may be an error, and the write is committed all the same.

    ``then`` says what else: "job" queues one, "fail" raises.
    """
    then = request.GET["then"]
    port = counting.write(owner, number, in_transaction="atomic" in request.GET)
    if then == "job":
        queue.send(owner=owner, number=number, port=port, reply=request.GET["reply"])
    if then == "fail":
        raise Http404
    return JsonResponse({"port": port})


async def aread(request, owner, times):
    return JsonResponse(await sync_to_async(counting.read)(owner, times))


async def awrite(request, owner, number):
    return await sync_to_async(write)(request, owner, number)
