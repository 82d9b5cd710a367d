"""serai.licenses.v1.LicenseServersService over the use cases: messages in, messages out, no rules of its own."""

from __future__ import annotations

from serai.licenses.v1 import license_servers_service_pb2 as pb

from serai_server.rpc.call import Call
from serai_server.rpc.ports import LicensePayments, LicenseServers


class LicenseServersServicer:
    def __init__(self, servers: LicenseServers, payments: LicensePayments) -> None:
        self._servers = servers
        self._payments = payments

    async def Add(self, request: pb.AddRequest, _call: Call) -> pb.AddResponse:
        return pb.AddResponse(server=await self._servers.add(request.server, request.key))

    async def List(self, _request: pb.ListRequest, _call: Call) -> pb.ListResponse:
        return pb.ListResponse(servers=await self._servers.list())

    async def Get(self, request: pb.GetRequest, _call: Call) -> pb.GetResponse:
        return pb.GetResponse(server=await self._servers.get(request.name))

    async def Remove(self, request: pb.RemoveRequest, _call: Call) -> pb.RemoveResponse:
        await self._servers.remove(request.name, force=request.force)
        return pb.RemoveResponse()

    async def SetKey(self, request: pb.SetKeyRequest, _call: Call) -> pb.SetKeyResponse:
        await self._servers.set_key(request.name, request.key)
        return pb.SetKeyResponse()

    async def SetSeats(self, request: pb.SetSeatsRequest, _call: Call) -> pb.SetSeatsResponse:
        return pb.SetSeatsResponse(server=await self._servers.set_seats(request.name, request.features))

    async def SetAddresses(self, request: pb.SetAddressesRequest, _call: Call) -> pb.SetAddressesResponse:
        port = request.vendor_port if request.HasField("vendor_port") else None
        return pb.SetAddressesResponse(server=await self._servers.set_addresses(request.name, request.addresses, port))

    async def Probe(self, request: pb.ProbeRequest, _call: Call) -> pb.ProbeResponse:
        return pb.ProbeResponse(server=await self._servers.probe(request.name))

    async def RotateKey(self, _request: pb.RotateKeyRequest, _call: Call) -> pb.RotateKeyResponse:
        return pb.RotateKeyResponse(resealed=await self._servers.rotate_key())

    async def AddMaintenance(self, request: pb.AddMaintenanceRequest, _call: Call) -> pb.AddMaintenanceResponse:
        return pb.AddMaintenanceResponse(window=await self._servers.add_maintenance(request.product, request.maintenance))

    async def ListMaintenance(self, _request: pb.ListMaintenanceRequest, _call: Call) -> pb.ListMaintenanceResponse:
        return pb.ListMaintenanceResponse(windows=await self._servers.list_maintenance())

    async def RemoveMaintenance(self, request: pb.RemoveMaintenanceRequest, _call: Call) -> pb.RemoveMaintenanceResponse:
        await self._servers.remove_maintenance(request.id)
        return pb.RemoveMaintenanceResponse()

    async def GetPayment(self, request: pb.GetPaymentRequest, _call: Call) -> pb.GetPaymentResponse:
        return pb.GetPaymentResponse(payment=await self._payments.get(request.license_id))

    async def ListPayments(self, _request: pb.ListPaymentsRequest, _call: Call) -> pb.ListPaymentsResponse:
        return pb.ListPaymentsResponse(payments=await self._payments.list())

    async def SetPayment(self, request: pb.SetPaymentRequest, _call: Call) -> pb.SetPaymentResponse:
        return pb.SetPaymentResponse(payment=await self._payments.set(request.license_id, request.decision))

    async def RegisterAgain(self, request: pb.RegisterAgainRequest, _call: Call) -> pb.RegisterAgainResponse:
        await self._payments.register_again(request.license_id)
        return pb.RegisterAgainResponse()
