-- /etc/prosody/conf.d/fedgate.cfg.lua: server-to-server streams go through fedgate, on this host.
-- The settings hold for all hosts. None of them may be set again in a VirtualHost or Component.

-- The world's 5269 is fedgate's. Nobody but this host reaches Prosody's own.
s2s_ports = { 15269 }
s2s_interfaces = { "127.0.0.1" }

-- fedgate speaks TLS with the world, and plain streams with dialback with us.
s2s_require_encryption = false
s2s_secure_auth = false
s2s_secure_domains = { }
