-- A peer as it is found on the Internet today: no S2S without TLS. Certificates that no CA has
-- signed are accepted with dialback (s2s_secure_auth = false), since fedgate has a self-signed one
-- in this demonstration.

s2s_require_encryption = true
s2s_secure_auth = false

modules_enabled = { "dialback", "disco", "ping", "roster", "saslauth", "tls" }

-- The test client comes without TLS, from the network of this demonstration only.
c2s_require_encryption = false
allow_unencrypted_plain_auth = true

authentication = "internal_hashed"
data_path = "/var/lib/prosody"
log = { info = "*console" }

VirtualHost "modern.example"
    ssl = {
        certificate = "/run/prosody/modern.example.crt";
        key = "/run/prosody/modern.example.key";
    }
