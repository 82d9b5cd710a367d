"""serai.licenses.v1.LicenseServersService over the use cases: for the operator's tools, and for nobody who comes through the gateway."""

from __future__ import annotations

from serai.licenses.v1 import license_servers_service_pb2 as pb

from serai_server.errors import Forbidden
from serai_server.rpc.methods import Call, Caller
from serai_server.rpc.ports import LicensePayments, LicenseServers


class LicenseServersServicer:
    def __init__(self, servers: LicenseServers, payments: LicensePayments) -> None:
        self._servers = servers
        self._payments = payments

    def _for_tools(self, call: Call) -> LicenseServers:
        """Raises Forbidden."""
        _check_tool(call)
        return self._servers

    def _money(self, call: Call) -> LicensePayments:
        """Raises Forbidden."""
        _check_tool(call)
        return self._payments

    async def Add(self, request: pb.AddRequest, call: Call) -> pb.AddResponse:
        return pb.AddResponse(server=await self._for_tools(call).add(request.server, request.key))

    async def List(self, _request: pb.ListRequest, call: Call) -> pb.ListResponse:
        return pb.ListResponse(servers=await self._for_tools(call).list())

    async def Get(self, request: pb.GetRequest, call: Call) -> pb.GetResponse:
        return pb.GetResponse(server=await self._for_tools(call).get(request.name))

    async def Remove(self, request: pb.RemoveRequest, call: Call) -> pb.RemoveResponse:
        await self._for_tools(call).remove(request.name, force=request.force)
        return pb.RemoveResponse()

    async def SetKey(self, request: pb.SetKeyRequest, call: Call) -> pb.SetKeyResponse:
        await self._for_tools(call).set_key(request.name, request.key)
        return pb.SetKeyResponse()

    async def SetSeats(self, request: pb.SetSeatsRequest, call: Call) -> pb.SetSeatsResponse:
        return pb.SetSeatsResponse(server=await self._for_tools(call).set_seats(request.name, request.features))

    async def SetAddresses(self, request: pb.SetAddressesRequest, call: Call) -> pb.SetAddressesResponse:
        port = request.vendor_port if request.HasField("vendor_port") else None
        return pb.SetAddressesResponse(server=await self._for_tools(call).set_addresses(request.name, request.addresses, port))

    async def Probe(self, request: pb.ProbeRequest, call: Call) -> pb.ProbeResponse:
        return pb.ProbeResponse(server=await self._for_tools(call).probe(request.name))

    async def RotateKey(self, _request: pb.RotateKeyRequest, call: Call) -> pb.RotateKeyResponse:
        return pb.RotateKeyResponse(resealed=await self._for_tools(call).rotate_key())

    async def AddMaintenance(self, request: pb.AddMaintenanceRequest, call: Call) -> pb.AddMaintenanceResponse:
        return pb.AddMaintenanceResponse(window=await self._for_tools(call).add_maintenance(request.product, request.maintenance))

    async def ListMaintenance(self, _request: pb.ListMaintenanceRequest, call: Call) -> pb.ListMaintenanceResponse:
        return pb.ListMaintenanceResponse(windows=await self._for_tools(call).list_maintenance())

    async def RemoveMaintenance(self, request: pb.RemoveMaintenanceRequest, call: Call) -> pb.RemoveMaintenanceResponse:
        await self._for_tools(call).remove_maintenance(request.id)
        return pb.RemoveMaintenanceResponse()

    async def GetPayment(self, request: pb.GetPaymentRequest, call: Call) -> pb.GetPaymentResponse:
        return pb.GetPaymentResponse(payment=await self._money(call).get(request.license_id))

    async def ListPayments(self, _request: pb.ListPaymentsRequest, call: Call) -> pb.ListPaymentsResponse:
        return pb.ListPaymentsResponse(payments=await self._money(call).list())

    async def SetPayment(self, request: pb.SetPaymentRequest, call: Call) -> pb.SetPaymentResponse:
        return pb.SetPaymentResponse(payment=await self._money(call).set(request.license_id, request.decision))

    async def RegisterAgain(self, request: pb.RegisterAgainRequest, call: Call) -> pb.RegisterAgainResponse:
        await self._money(call).register_again(request.license_id)
        return pb.RegisterAgainResponse()


def _check_tool(call: Call) -> None:
    """Raises Forbidden."""
    if call.caller is not Caller.TOOL:
        raise Forbidden("this call is for the operator's tools")
