// Takes the code from behind the # of an invitation's link, where no server sees it, and sends it as a form.
// Without it one pastes the code.

const form = document.getElementById("invitation");
const code = location.hash.slice(1);
if (code !== "") {
  history.replaceState(null, "", location.pathname);
  form.elements.code.value = decodeURIComponent(code);
  form.submit();
}
