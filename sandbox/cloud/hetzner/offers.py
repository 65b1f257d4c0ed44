"""What can be ordered: locations, server types, images, prices. Read only."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.cloud.hetzner import errors, lists
from sandbox.cloud.hetzner.catalogue import IMAGES, LOCATIONS, SERVER_TYPES, ServerType, pricing
from sandbox.cloud.hetzner.domain import JsonObject
from sandbox.cloud.hetzner.project import Project


class Offers:
    """The routes of the catalogue."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        return [
            Route("/locations", self.locations),
            Route("/locations/{id:int}", self.location),
            Route("/datacenters", self.datacenters),
            Route("/datacenters/{id:int}", self.datacenters),
            Route("/server_types", self.server_types),
            Route("/server_types/{id:int}", self.server_type),
            Route("/images", self.images),
            Route("/images/{id:int}", self.image),
            Route("/pricing", self.pricing),
        ]

    def server_type_body(self, server_type: ServerType) -> JsonObject:
        """Render a server type with what is sold out now."""
        faults = self._project.faults
        gone = {name for name in LOCATIONS if faults.sold_out(server_type.name, name)}
        return server_type.body(frozenset(gone))

    async def locations(self, request: Request) -> Response:
        """List."""
        return lists.answer(request, "locations", (place.body() for place in LOCATIONS.values()))

    async def location(self, request: Request) -> Response:
        """Get one."""
        for place in LOCATIONS.values():
            if place.id == request.path_params["id"]:
                return JSONResponse({"location": place.body()})
        raise errors.not_found("location", request.path_params["id"])

    async def datacenters(self, request: Request) -> Response:
        """Refuse: the vendor removed them after 1 October 2026."""
        raise errors.HetznerError(
            410, "deprecated_api_endpoint", "datacenters were removed, use locations"
        )

    async def server_types(self, request: Request) -> Response:
        """List."""
        bodies = (self.server_type_body(t) for t in SERVER_TYPES.values())
        return lists.answer(request, "server_types", bodies)

    async def server_type(self, request: Request) -> Response:
        """Get one."""
        for server_type in SERVER_TYPES.values():
            if server_type.id == request.path_params["id"]:
                return JSONResponse({"server_type": self.server_type_body(server_type)})
        raise errors.not_found("server type", request.path_params["id"])

    async def images(self, request: Request) -> Response:
        """List."""
        return lists.answer(request, "images", (image.body() for image in IMAGES.values()))

    async def image(self, request: Request) -> Response:
        """Get one."""
        identifier = request.path_params["id"]
        if identifier not in IMAGES:
            raise errors.not_found("image", identifier)
        return JSONResponse({"image": IMAGES[identifier].body()})

    async def pricing(self, request: Request) -> Response:
        """Give all prices."""
        return JSONResponse({"pricing": pricing()})
