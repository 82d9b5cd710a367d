"""Serai's gateway: the only code that knows UCloud's wire, in both directions. It holds no state that matters."""
