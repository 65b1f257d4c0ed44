package cloudflare

import "overlord/sandbox/providers/kit"

var dnsRecord = collection{
	token: "cloudflare:index/dnsRecord:DnsRecord",
	scope: "zoneId", root: "zones", path: "dns_records",
	fields: []kit.Field{
		{Name: "name", Type: kit.String, Required: true},
		{Name: "type", Type: kit.String, Required: true},
		{Name: "ttl", Type: kit.Number, Required: true},
		{Name: "content", Type: kit.String, Computed: true},
		{Name: "data", Type: kit.Any, Shaped: true},
		{Name: "priority", Type: kit.Number},
		{Name: "privateRouting", Type: kit.Bool},
		{Name: "proxied", Type: kit.Bool, Default: false},
		{Name: "comment", Type: kit.String},
		{Name: "settings", Type: kit.Any, Computed: true, Shaped: true},
		{Name: "tags", Type: kit.Set, Computed: true, Elem: kit.Items(kit.String)},
		{Name: "proxiable", Type: kit.Bool, Output: true},
		{Name: "createdOn", Type: kit.String, Output: true},
		{Name: "modifiedOn", Type: kit.String, Output: true},
		{Name: "commentModifiedOn", Type: kit.String, Output: true},
		{Name: "tagsModifiedOn", Type: kit.String, Output: true},
	},
	toAPI: func(body map[string]any) {
		// The API derives the content of a CAA or SRV record from its data.
		if _, ok := body["data"]; ok {
			delete(body, "content")
		}
	},
}.resource()
