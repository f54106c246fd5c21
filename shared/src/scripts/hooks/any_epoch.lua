-- Switches a mechanism off for a test that must then fail: copies count under any epoch.
is_of = function() return true end
