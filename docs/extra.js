// Accessibility: wide tables can be scrolled by keyboard, and the copy buttons of code blocks are not landmarks.
const mend = () => {
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    wide.tabIndex = 0;
  }
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) {
    nav.setAttribute("role", "presentation");
  }
};
new MutationObserver(mend).observe(document.documentElement, { childList: true, subtree: true });
mend();
