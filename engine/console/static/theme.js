{let t=null;try{t=localStorage.getItem("adaptry.theme")}catch{}(t==="light"||t==="dark")&&(document.documentElement.dataset.theme=t)}
