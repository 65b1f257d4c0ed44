"""The device registry."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from dashboard.api.auth import matches, new_token, refuse_token
from dashboard.api.context import (
    AppContext,
    Leader,
    Operator,
    Token,
    client_address,
    require_operator,
)
from dashboard.api.models import (
    Device,
    DeviceChange,
    DeviceId,
    DevicePage,
    Enrolled,
    Enrolment,
    Status,
    Tag,
    Text,
)
from dashboard.api.problems import ProblemError
from dashboard.api.store import audit, devices

router = APIRouter(tags=["devices"])

DevicePath = Annotated[DeviceId, Path()]


@router.post("/api/devices", status_code=HTTPStatus.CREATED)
async def enrol_device(
    _: Leader, token: Token, enrolment: Enrolment, context: AppContext, request: Request
) -> Enrolled:
    """Enrol a device; the answer holds its token, which is not kept and not shown again."""
    settings = context.settings
    if not matches(token, settings.enrol_token, settings.operator_token):
        raise refuse_token("for enrolling devices")
    actor = "operator" if matches(token, settings.operator_token) else "enroller"
    fresh = new_token()
    try:
        async with context.database.transaction() as connection:
            event = await devices.enrol(connection, enrolment, fresh.sha256)
            await audit.note(
                connection,
                actor=actor,
                action="device.enrol",
                target=enrolment.device_id,
                client=client_address(request),
                detail=enrolment.model_dump(include={"name", "tags", "address"}),
            )
    except devices.AlreadyEnrolledError:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"A device {enrolment.device_id} is enrolled already. Choose another id.",
            reason="already_enrolled",
        ) from None
    context.feed.mark(devices=[enrolment.device_id], events=[event])
    return Enrolled(device_id=enrolment.device_id, token=fresh.text)


@router.get("/api/devices", dependencies=[Depends(require_operator)])
async def list_devices(
    context: AppContext,
    state: devices.State = "enrolled",
    status: Status | None = None,
    online: bool | None = None,
    tag: Tag | None = None,
    search: Annotated[Text | None, Query(max_length=100)] = None,
    sort: devices.Sort = "device_id",
    order: devices.Order = "asc",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DevicePage:
    """Devices that match, in the order asked for, one page at a time."""
    query = devices.DeviceQuery(
        state=state,
        status=status,
        online=online,
        tag=tag,
        search=search,
        sort=sort,
        order=order,
        page=page,
        page_size=page_size,
    )
    async with context.database.transaction() as connection:
        items, total = await devices.find(connection, query)
    return DevicePage(items=list(items), total=total, page=page, page_size=page_size)


@router.get("/api/devices/{device_id}", dependencies=[Depends(require_operator)])
async def get_device(device_id: DevicePath, context: AppContext) -> Device:
    """One device, retired or not."""
    async with context.database.transaction() as connection:
        device = await devices.get(connection, device_id)
    if device is None:
        raise _no_such(device_id)
    return device


@router.patch("/api/devices/{device_id}")
async def change_device(
    _: Leader,
    operator: Operator,
    device_id: DevicePath,
    changes: DeviceChange,
    context: AppContext,
    request: Request,
) -> Device:
    """Rename a device, tag it, or say where it is scraped."""
    async with context.database.transaction() as connection:
        before = await devices.get(connection, device_id)
        if before is None or not await devices.change(connection, device_id, changes):
            raise _no_such(device_id)
        after = await devices.get(connection, device_id)
        assert after is not None
        changed = changes.model_fields_set
        await audit.note(
            connection,
            actor=operator,
            action="device.change",
            target=device_id,
            client=client_address(request),
            detail={
                "from": before.model_dump(include=changed),
                "to": after.model_dump(include=changed),
            },
        )
    context.feed.mark(devices=[device_id])
    return after


@router.post("/api/devices/{device_id}/retire")
async def retire_device(
    _: Leader, operator: Operator, device_id: DevicePath, context: AppContext, request: Request
) -> Device:
    """Take a device out of the fleet. Its token stops to work; its history stays."""
    async with context.database.transaction() as connection:
        event = await devices.retire(connection, device_id)
        if event is None:
            raise _no_such(device_id)
        device = await devices.get(connection, device_id)
        assert device is not None
        await audit.note(
            connection,
            actor=operator,
            action="device.retire",
            target=device_id,
            client=client_address(request),
        )
    context.feed.mark(retired=[device_id], events=[event])
    return device


@router.post("/api/devices/{device_id}/token")
async def replace_token(
    _: Leader, operator: Operator, device_id: DevicePath, context: AppContext, request: Request
) -> Enrolled:
    """Give a device a new token, shown this once; the old one stops to work."""
    fresh = new_token()
    async with context.database.transaction() as connection:
        if not await devices.set_token(connection, device_id, fresh.sha256):
            raise _no_such(device_id)
        await audit.note(
            connection,
            actor=operator,
            action="device.token",
            target=device_id,
            client=client_address(request),
        )
    return Enrolled(device_id=device_id, token=fresh.text)


def _no_such(device_id: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_FOUND, f"No device {device_id} is enrolled.", reason="no_such_device"
    )
