// @ts-check
"use strict";
/**
 * Where a page is opened from a folder (file:), a browser starts no worker; the site's search then runs in a hidden
 * frame. It takes the place of a script that the site generator would fetch from another host.
 */
if (location.protocol === "file:") {
  window.Worker = /** @type {any} */ (
    class extends EventTarget {
      /** @param {string | URL} url the worker's script */
      constructor(url) {
        super();
        /** @type {any[]} */
        this.waiting = [];
        /** @type {((event: MessageEvent) => void) | null} */
        this.onmessage = null;
        const frame = document.createElement("iframe");
        frame.hidden = true;
        document.body.append(frame);
        const inside = /** @type {any} */ (frame.contentWindow);
        this.inside = inside;
        inside.postMessage = (/** @type {any} */ data) => {
          const event = new MessageEvent("message", { data });
          setTimeout(() => (this.dispatchEvent(event), this.onmessage?.(event))); // later, as a worker's messages come
        };
        const script = inside.document.createElement("script");
        script.src = String(url);
        script.addEventListener("load", () => {
          this.ready = true;
          for (const data of this.waiting.splice(0)) this.postMessage(data);
        });
        inside.document.head.append(script);
      }

      /** @param {any} data what the worker is sent */
      postMessage(data) {
        if (!this.ready) return void this.waiting.push(data);
        const event = new this.inside.MessageEvent("message", { data });
        setTimeout(() => this.inside.dispatchEvent(event));
      }

      /** Stop the worker. */
      terminate() {
        this.inside.frameElement?.remove();
      }
    }
  );
}
