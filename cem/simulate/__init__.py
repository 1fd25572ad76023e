"""The engine in closed loop with a plant under a virtual clock: scenarios, simulated days, and their judgement.

The plant is handed in (``adapters.simulated`` has one); what is judged are its currents, never the engine's figures.
"""
