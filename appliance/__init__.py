"""Intramuros: the appliance. Edges call services, services compose domains, domains rest on store and kernel."""
