"""OPC UA: limits that a DSO's server holds, and measured values of any server."""

from adapters.opcua.limit import OpcUaLimitAdapter

__all__ = ["OpcUaLimitAdapter"]
