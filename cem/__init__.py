"""Local energy manager for EV charging sites: CEM and local CSMS (IEC 63110-1) in one process."""
