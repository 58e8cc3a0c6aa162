"""The only writers. Each function authorises, validates, records in the audit and acts, in that order."""
