package cloudflare

import "overlord/sandbox/providers/kit"

var loadBalancerPool = collection{
	token: "cloudflare:index/loadBalancerPool:LoadBalancerPool",
	scope: "accountId", root: "accounts", path: "load_balancers/pools",
	fields: []kit.Field{
		{Name: "name", Type: kit.String, Required: true},
		{Name: "origins", Type: kit.Any, Required: true, Shaped: true},
		{Name: "monitor", Type: kit.String},
		{Name: "monitorGroup", Type: kit.String},
		{Name: "description", Type: kit.String, Computed: true},
		{Name: "enabled", Type: kit.Bool, Default: true},
		{Name: "minimumOrigins", Type: kit.Number, Default: 1.0},
		{Name: "checkRegions", Type: kit.List},
		{Name: "latitude", Type: kit.Number},
		{Name: "longitude", Type: kit.Number},
		{Name: "loadShedding", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "notificationEmail", Type: kit.String, Computed: true},
		{Name: "notificationFilter", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "originSteering", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "networks", Type: kit.List, Output: true},
		{Name: "disabledAt", Type: kit.String, Output: true},
		{Name: "createdOn", Type: kit.String, Output: true},
		{Name: "modifiedOn", Type: kit.String, Output: true},
	},
	toAPI:   func(body map[string]any) { renameHostHeader(body, "hosts", "Host") },
	fromAPI: func(object map[string]any) { renameHostHeader(object, "Host", "hosts") },
}.resource()

// renameHostHeader: an origin's only header is `hosts` in the provider and `Host` in the API.
func renameHostHeader(pool map[string]any, from, to string) {
	origins, _ := pool["origins"].([]any)
	for _, item := range origins {
		origin, _ := item.(map[string]any)
		header, _ := origin["header"].(map[string]any)
		if value, ok := header[from]; ok {
			origin["header"] = map[string]any{to: value}
		}
	}
}
