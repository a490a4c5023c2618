import{I as s,U as a,ga as m,ia as p,l as o,u as r,y as e}from"./chunk-NOD4VDYX.js";export{r as api,p as cacheTiers,m as decisionWindow,o as dom,s as format,a as plot,e as sse};
