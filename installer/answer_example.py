"""An answer file to begin with: complete, commented, and accepted as it stands (a test reads it)."""

from __future__ import annotations

EXAMPLE = """\
# Answers for the installation of one box. Every key: docs/it-staff/answers.md
schema = 1
hostname = "box1.example.org"
profile = "baseline"                 # or "strict"
timezone = "Etc/UTC"

[admin]
user = "anna"
authorized_keys = [
  # Replace it by your own: the content of ~/.ssh/id_ed25519.pub
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3v0b0X0Q0m4q0x4bq2Yk5sO0Hq1gC0mS0k2kq3b1yT anna@desk",
]
sudo = "password"
password_hash_file = "/run/anna.hash"   # made by: intramuros answers password /run/anna.hash

[network]
admin = ["192.0.2.0/28"]             # SSH from here alone
clients = ["198.51.100.0/24"]        # HTTPS from here alone
dns = ["192.0.2.1"]
ntp = ["192.0.2.2"]

[storage]
mode = "luks"
device = "/dev/disk/by-id/REPLACE"   # everything on it is lost
unlock = ["passphrase"]              # and "tpm2", "tang"
passphrase_file = "/run/data.pass"  # leave it out to be asked

[tls]
mode = "internal"
names = ["box1.example.org", "192.0.2.10"]

[app]
port = 8443
seed_model = "seed"                  # a model of the bundle, or leave it out

[backup]
schedule = "daily"
"""
