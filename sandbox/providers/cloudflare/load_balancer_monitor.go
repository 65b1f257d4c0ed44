package cloudflare

import "overlord/sandbox/providers/kit"

var loadBalancerMonitor = collection{
	token: "cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor",
	scope: "accountId", root: "accounts", path: "load_balancers/monitors",
	fields: []kit.Field{
		{Name: "type", Type: kit.String, Computed: true},
		{Name: "method", Type: kit.String, Computed: true},
		{Name: "path", Type: kit.String, Computed: true},
		{Name: "port", Type: kit.Number, Computed: true},
		{Name: "header", Type: kit.Map},
		{Name: "description", Type: kit.String, Computed: true},
		{Name: "expectedCodes", Type: kit.String, Computed: true},
		{Name: "expectedBody", Type: kit.String, Computed: true},
		{Name: "followRedirects", Type: kit.Bool, Computed: true},
		{Name: "allowInsecure", Type: kit.Bool, Computed: true},
		{Name: "interval", Type: kit.Number, Computed: true},
		{Name: "timeout", Type: kit.Number, Computed: true},
		{Name: "retries", Type: kit.Number, Computed: true},
		{Name: "consecutiveUp", Type: kit.Number, Computed: true},
		{Name: "consecutiveDown", Type: kit.Number, Computed: true},
		{Name: "probeZone", Type: kit.String, Computed: true},
		{Name: "createdOn", Type: kit.String, Output: true},
		{Name: "modifiedOn", Type: kit.String, Output: true},
	},
}.resource()
