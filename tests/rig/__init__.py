"""The interop rig: real servers, real DNS, real clients around fedgate, in network namespaces."""
