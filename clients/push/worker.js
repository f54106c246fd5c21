// A service worker that shows what Optimist pushes: the reference for apps, which serve it from their own origin.
//
// It keeps nothing and asks nothing: what a push names, the app loads when it is opened.

self.addEventListener("push", (event) => event.waitUntil(show(event.data)));
self.addEventListener("notificationclick", (event) => event.waitUntil(open(event.notification)));

/** What a push says; `null` if it is none of ours, or broken. */
function read(data) {
  try {
    const { type, data: told } = data.json();
    return type === "notification" ? told : null;
  } catch {
    return null;
  }
}

/** A browser withdraws the permission of a worker that shows nothing, so there is a line for every push. */
function show(data) {
  const told = read(data);
  // A push service may not have taken the line.
  const line = told?.line ?? (navigator.language.startsWith("de") ? "Es gibt Neues" : "There is news");
  return self.registration.showNotification("Optimist", {
    body: line,
    // A push that comes again replaces the notification, and alerts nobody again.
    tag: told?.id,
    renotify: false,
    data: told,
  });
}

/** Goes to a window of the app if there is one, and tells it what was chosen; else it opens one. */
async function open(notification) {
  notification.close();
  const [app] = await self.clients.matchAll({ type: "window" });
  if (!app) return self.clients.openWindow(self.registration.scope);
  app.postMessage({ type: "notification", data: notification.data });
  return app.focus();
}
