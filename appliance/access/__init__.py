"""Who may do what: certificates, API keys, roles and approvals."""
