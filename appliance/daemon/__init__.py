"""intramurosd: owns the state, answers the control API, supervises gateway, engines and jobs."""
