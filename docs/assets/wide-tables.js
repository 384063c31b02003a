"use strict";
// Tables that are wider than the screen scroll sideways; the keyboard must reach them, too. The
// theme wraps tables after the page has loaded.
new MutationObserver(() => {
  for (const wrapper of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    wrapper.tabIndex = 0;
  }
}).observe(document.body, { childList: true, subtree: true });
