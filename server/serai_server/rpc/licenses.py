"""serai.licenses.v1.LicensesService and LicensesProviderService over the use cases: messages in, messages out, no rules of their own."""

from __future__ import annotations

from serai.core.v1.resources_pb2 import FindByStringId
from serai.licenses.v1 import licenses_provider_service_pb2 as core_pb
from serai.licenses.v1 import licenses_service_pb2 as pb

from serai_server.errors import Forbidden
from serai_server.licenses.access import OPERATOR, Actor
from serai_server.rpc.call import Call, Caller
from serai_server.rpc.ports import Licenses, LicensesOfCore


class LicensesServicer:
    def __init__(self, licenses: Licenses) -> None:
        self._licenses = licenses

    async def Browse(self, request: pb.BrowseRequest, call: Call) -> pb.BrowseResponse:
        size, found, token = await self._licenses.browse(request, _actor(call))
        return pb.BrowseResponse(items_per_page=size, items=found, next=token or None)

    async def Search(self, request: pb.SearchRequest, call: Call) -> pb.SearchResponse:
        size, found, token = await self._licenses.search(request, _actor(call))
        return pb.SearchResponse(items_per_page=size, items=found, next=token or None)

    async def Retrieve(self, request: pb.RetrieveRequest, call: Call) -> pb.RetrieveResponse:
        return pb.RetrieveResponse(license=await self._licenses.retrieve(request.id, request.flags, _actor(call)))

    async def RetrieveProducts(self, _request: pb.RetrieveProductsRequest, _call: Call) -> pb.RetrieveProductsResponse:
        found = await self._licenses.products()
        return pb.RetrieveProductsResponse(
            products_by_provider={provider: pb.ResolvedLicenseSupports(supports=supports) for provider, supports in found.items()}
        )

    async def Create(self, request: pb.CreateRequest, call: Call) -> pb.CreateResponse:
        ids = await self._licenses.create(request.items, request.owner, _actor(call))
        return pb.CreateResponse(responses=[FindByStringId(id=license_id) for license_id in ids])

    async def Delete(self, request: pb.DeleteRequest, call: Call) -> pb.DeleteResponse:
        await self._licenses.delete([item.id for item in request.items], _actor(call))
        return pb.DeleteResponse(responses=[pb.Acknowledged()] * len(request.items))

    async def Init(self, _request: pb.InitRequest, call: Call) -> pb.InitResponse:
        await self._licenses.init(_actor(call))
        return pb.InitResponse()

    async def UpdateAcl(self, request: pb.UpdateAclRequest, call: Call) -> pb.UpdateAclResponse:
        await self._licenses.update_acl(request.items, _actor(call))
        return pb.UpdateAclResponse(responses=[pb.Acknowledged()] * len(request.items))


class LicensesProviderServicer:
    def __init__(self, licenses: LicensesOfCore) -> None:
        self._licenses = licenses

    async def Create(
        self, request: core_pb.LicensesProviderServiceCreateRequest, _call: Call
    ) -> core_pb.LicensesProviderServiceCreateResponse:
        await self._licenses.create(request.items)
        return core_pb.LicensesProviderServiceCreateResponse(responses=[core_pb.CreatedLicense()] * len(request.items))

    async def Delete(
        self, request: core_pb.LicensesProviderServiceDeleteRequest, _call: Call
    ) -> core_pb.LicensesProviderServiceDeleteResponse:
        await self._licenses.delete(request.items)
        return core_pb.LicensesProviderServiceDeleteResponse(responses=[pb.Acknowledged()] * len(request.items))

    async def Verify(
        self, request: core_pb.LicensesProviderServiceVerifyRequest, _call: Call
    ) -> core_pb.LicensesProviderServiceVerifyResponse:
        await self._licenses.verify(request.items)
        return core_pb.LicensesProviderServiceVerifyResponse()

    async def RetrieveProducts(
        self, _request: core_pb.LicensesProviderServiceRetrieveProductsRequest, _call: Call
    ) -> core_pb.LicensesProviderServiceRetrieveProductsResponse:
        return core_pb.LicensesProviderServiceRetrieveProductsResponse(responses=await self._licenses.support())

    async def UpdateAcl(
        self, request: core_pb.LicensesProviderServiceUpdateAclRequest, _call: Call
    ) -> core_pb.LicensesProviderServiceUpdateAclResponse:
        await self._licenses.update_acl(request.items)
        return core_pb.LicensesProviderServiceUpdateAclResponse(responses=[pb.Acknowledged()] * len(request.items))

    async def Init(self, _request: core_pb.LicensesProviderServiceInitRequest, _call: Call) -> core_pb.LicensesProviderServiceInitResponse:
        await self._licenses.init()
        return core_pb.LicensesProviderServiceInitResponse()

    async def OnUpdatedLabels(
        self, request: core_pb.LicensesProviderServiceOnUpdatedLabelsRequest, _call: Call
    ) -> core_pb.LicensesProviderServiceOnUpdatedLabelsResponse:
        await self._licenses.update_labels(request.items)
        return core_pb.LicensesProviderServiceOnUpdatedLabelsResponse(responses=[pb.Acknowledged()] * len(request.items))


def _actor(call: Call) -> Actor:
    """Raises Forbidden for Core, which has calls of its own."""
    if call.caller is Caller.USER:
        return Actor(call.user, call.project, call.role, frozenset(call.groups))
    if call.caller is Caller.CORE:
        raise Forbidden("UCloud/Core calls LicensesProviderService")
    return OPERATOR
