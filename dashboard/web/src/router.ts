/** Addresses of the pages. Behind `#`, so that any server of plain files can serve them. */

import { createRouter, createWebHashHistory } from "vue-router";

import FleetPage from "./pages/FleetPage.vue";

declare module "vue-router" {
  interface RouteMeta {
    title: string;
  }
}

export const router = createRouter({
  history: createWebHashHistory(),
  scrollBehavior: (_to, _from, saved) => saved ?? { top: 0 },
  routes: [
    { path: "/", name: "fleet", component: FleetPage, meta: { title: "Fleet" } },
    {
      path: "/devices/:id",
      name: "device",
      props: true,
      // Apart, with the chart library: the fleet page does not wait for it.
      component: () => import("./pages/DevicePage.vue"),
      meta: { title: "Device" },
    },
    {
      path: "/alerts",
      name: "alerts",
      component: () => import("./pages/AlertsPage.vue"),
      meta: { title: "Alerts" },
    },
    {
      path: "/nodes",
      name: "nodes",
      component: () => import("./pages/NodesPage.vue"),
      meta: { title: "Nodes" },
    },
    {
      path: "/backups",
      name: "backups",
      component: () => import("./pages/BackupsPage.vue"),
      meta: { title: "Backups" },
    },
    {
      path: "/audit",
      name: "audit",
      component: () => import("./pages/AuditPage.vue"),
      meta: { title: "Audit" },
    },
    {
      path: "/:rest(.*)*",
      name: "lost",
      component: () => import("./pages/LostPage.vue"),
      meta: { title: "Not found" },
    },
  ],
});
