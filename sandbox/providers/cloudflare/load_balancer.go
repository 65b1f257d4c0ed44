package cloudflare

import "overlord/sandbox/providers/kit"

var loadBalancer = collection{
	token: "cloudflare:index/loadBalancer:LoadBalancer",
	scope: "zoneId", root: "zones", path: "load_balancers",
	fields: []kit.Field{
		{Name: "name", Type: kit.String, Required: true},
		{Name: "defaultPools", Type: kit.List, Required: true, Elem: kit.Items(kit.String)},
		{Name: "fallbackPool", Type: kit.String, Required: true},
		{Name: "description", Type: kit.String, Computed: true},
		{Name: "enabled", Type: kit.Bool, Default: true},
		{Name: "proxied", Type: kit.Bool, Default: false},
		{Name: "ttl", Type: kit.Number, Computed: true},
		{Name: "steeringPolicy", Type: kit.String, Computed: true},
		{Name: "sessionAffinity", Type: kit.String, Computed: true},
		{Name: "sessionAffinityTtl", Type: kit.Number, Computed: true},
		{Name: "sessionAffinityAttributes", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "adaptiveRouting", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "locationStrategy", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "randomSteering", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "networks", Type: kit.List, Computed: true},
		{Name: "countryPools", Type: kit.Map, Computed: true},
		{Name: "regionPools", Type: kit.Map, Computed: true},
		{Name: "popPools", Type: kit.Map, Computed: true},
		{Name: "rules", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "zoneName", Type: kit.String, Output: true},
		{Name: "createdOn", Type: kit.String, Output: true},
		{Name: "modifiedOn", Type: kit.String, Output: true},
	},
}.resource()
